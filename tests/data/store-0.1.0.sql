-- A store as version 0.1.0 left it on 2026-11-24, before a release: jobs that have ended, one that ran when its
-- process was killed, two that wait, and a key ("the-key-of-ann"). tests/test_upgrade.py opens it.
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num TEXT NOT NULL, 
	PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0009');
CREATE TABLE api_keys (
	name TEXT NOT NULL, 
	digest TEXT NOT NULL, 
	rights TEXT NOT NULL, 
	created_at BIGINT NOT NULL, 
	revoked_at BIGINT, 
	CONSTRAINT pk_api_keys PRIMARY KEY (name), 
	CONSTRAINT uq_api_keys_digest UNIQUE (digest)
);
INSERT INTO "api_keys" VALUES('ann','8af0254f7f09ed2950bff1b2a9956bee008019cd91e242ea17081664eacd65b7','cancel read submit',1795963043599,NULL);
CREATE TABLE attempts (
	job_id TEXT NOT NULL, 
	attempt INTEGER NOT NULL, 
	prompt_id TEXT NOT NULL, 
	engine TEXT NOT NULL, 
	fence BIGINT NOT NULL, 
	state TEXT NOT NULL, 
	claimed_at BIGINT NOT NULL, 
	finished_at BIGINT, 
	stream_id TEXT, 
	CONSTRAINT pk_attempts PRIMARY KEY (job_id, attempt), 
	CONSTRAINT fk_attempts_job_id FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE, 
	CONSTRAINT uq_attempts_prompt_id UNIQUE (prompt_id)
);
INSERT INTO "attempts" VALUES('00dd368f-6fbc-43a3-bd16-49d26501b640',1,'9cc7f19c-93d6-4888-83ea-19c42a146a31','127.0.0.1:38683',1,'completed',1795963032056,1795963032465,'359305d2273a456caeea40b9b4966c8a');
INSERT INTO "attempts" VALUES('4622c107-bece-40e9-870a-a8799a836e52',1,'586bd463-24ef-4e94-9c7a-03fdbee2ac42','127.0.0.1:38683',2,'failed',1795963035366,1795963035413,'838dd6c253db436e8564cb829920edb2');
INSERT INTO "attempts" VALUES('df6c77d8-3cec-4806-80c1-69add62bc0b3',1,'480ee2d4-ccee-4c7c-947f-ddcb29f899bf','127.0.0.1:38683',3,'active',1795963037131,NULL,'6527c8998109472097d6f47c9a67d1a2');
CREATE TABLE client_shares (
	lane TEXT NOT NULL, 
	priority INTEGER NOT NULL, 
	client TEXT NOT NULL, 
	tag BIGINT NOT NULL, 
	CONSTRAINT pk_client_shares PRIMARY KEY (lane, priority, client)
);
INSERT INTO "client_shares" VALUES('local',1,'local',2);
CREATE TABLE engine_leases (
	engine TEXT NOT NULL, 
	holder TEXT NOT NULL, 
	fence BIGINT NOT NULL, 
	expires_at BIGINT NOT NULL, 
	ttl_ms BIGINT DEFAULT '600000' NOT NULL, 
	CONSTRAINT pk_engine_leases PRIMARY KEY (engine)
);
INSERT INTO "engine_leases" VALUES('127.0.0.1:38683','31787-45f71cf00a734a1fb3cdad2645a4d784',3,1795963047076,10000);
CREATE TABLE events (
	seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	job_id TEXT NOT NULL, 
	type TEXT NOT NULL, 
	at BIGINT NOT NULL, 
	payload TEXT NOT NULL, 
	CONSTRAINT fk_events_job_id FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE
);
INSERT INTO "events" VALUES(1,'00dd368f-6fbc-43a3-bd16-49d26501b640','queued',1795963032030,'{"client":"local","lane":"local","priority":"normal","node_count":2,"warnings":[],"queue_timeout_ms":null,"run_timeout_ms":null,"retry_of":null,"shape":"89adb2a7cfadd92be459c371706a5003"}');
INSERT INTO "events" VALUES(2,'00dd368f-6fbc-43a3-bd16-49d26501b640','claimed',1795963032056,'{"attempt":1,"engine":"127.0.0.1:38683","prompt_id":"9cc7f19c-93d6-4888-83ea-19c42a146a31"}');
INSERT INTO "events" VALUES(3,'00dd368f-6fbc-43a3-bd16-49d26501b640','started',1795963032092,'{"attempt":1}');
INSERT INTO "events" VALUES(5,'00dd368f-6fbc-43a3-bd16-49d26501b640','completed',1795963032465,'{"attempt":1,"output_count":1}');
INSERT INTO "events" VALUES(6,'4622c107-bece-40e9-870a-a8799a836e52','queued',1795963035354,'{"client":"local","lane":"local","priority":"normal","node_count":3,"warnings":[],"queue_timeout_ms":null,"run_timeout_ms":null,"retry_of":null,"shape":"711a4ef9816101f5ff2e28a0c7e58edb"}');
INSERT INTO "events" VALUES(7,'4622c107-bece-40e9-870a-a8799a836e52','claimed',1795963035366,'{"attempt":1,"engine":"127.0.0.1:38683","prompt_id":"586bd463-24ef-4e94-9c7a-03fdbee2ac42"}');
INSERT INTO "events" VALUES(8,'4622c107-bece-40e9-870a-a8799a836e52','started',1795963035407,'{"attempt":1}');
INSERT INTO "events" VALUES(9,'4622c107-bece-40e9-870a-a8799a836e52','failed',1795963035413,'{"attempt":1,"failure":{"kind":"node_error","message":"RuntimeError: no luck","node_id":"3","node_type":"BridgeFail","detail":"RuntimeError: no luck\n\n  File \"/opt/comfy-bridge/comfy_mcp/embedded/execution.py\", line 128, in _execute\n    result = self._node(node_id).run(context, inputs)\n             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^\n  File \"/opt/comfy-bridge/comfy_mcp/embedded/nodes/own.py\", line 76, in <lambda>\n    run=lambda context, inputs: _fail(context, {\"exception_type\": \"RuntimeError\", **inputs}),\n                                ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^\n  File \"/opt/comfy-bridge/comfy_mcp/embedded/nodes/own.py\", line 35, in _fail\n    raise NodeFailure(inputs[\"message\"], kind=inputs[\"exception_type\"])\n\ninputs: {\"image\": [\"Frames(1 of 32x32 RGB)\"], \"message\": [\"no luck\"]}"},"output_count":0}');
INSERT INTO "events" VALUES(10,'df6c77d8-3cec-4806-80c1-69add62bc0b3','queued',1795963037131,'{"client":"local","lane":"local","priority":"normal","node_count":2,"warnings":[],"queue_timeout_ms":null,"run_timeout_ms":null,"retry_of":null,"shape":"4f69fca7b575f81ce42791464f4ede75"}');
INSERT INTO "events" VALUES(11,'df6c77d8-3cec-4806-80c1-69add62bc0b3','claimed',1795963037131,'{"attempt":1,"engine":"127.0.0.1:38683","prompt_id":"480ee2d4-ccee-4c7c-947f-ddcb29f899bf"}');
INSERT INTO "events" VALUES(12,'df6c77d8-3cec-4806-80c1-69add62bc0b3','started',1795963037223,'{"attempt":1}');
INSERT INTO "events" VALUES(13,'df6c77d8-3cec-4806-80c1-69add62bc0b3','progress',1795963037249,'{"attempt":1,"progress":0.0,"node_id":"1","node_title":"BridgeSlowImage","eta_ms":null}');
INSERT INTO "events" VALUES(14,'cd7c142e-775f-4bae-a0f0-e0b1089fef30','queued',1795963039318,'{"client":"local","lane":"local","priority":"normal","node_count":2,"warnings":[],"queue_timeout_ms":null,"run_timeout_ms":null,"retry_of":null,"shape":"89adb2a7cfadd92be459c371706a5003"}');
INSERT INTO "events" VALUES(15,'1a357f03-28bd-4c86-83bc-b608b6d46c25','queued',1795963041453,'{"client":"local","lane":"local","priority":"high","node_count":2,"warnings":[],"queue_timeout_ms":null,"run_timeout_ms":null,"retry_of":null,"shape":"89adb2a7cfadd92be459c371706a5003"}');
CREATE TABLE file_hashes (
	path TEXT NOT NULL, 
	size BIGINT NOT NULL, 
	mtime_ns BIGINT NOT NULL, 
	sha256 TEXT NOT NULL, 
	CONSTRAINT pk_file_hashes PRIMARY KEY (path)
);
CREATE TABLE graphs (
	job_id TEXT NOT NULL, 
	graph TEXT NOT NULL, 
	CONSTRAINT pk_graphs PRIMARY KEY (job_id), 
	CONSTRAINT fk_graphs_job_id FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE
);
INSERT INTO "graphs" VALUES('00dd368f-6fbc-43a3-bd16-49d26501b640','{"1":{"class_type":"EmptyImage","inputs":{"width":32,"height":32,"batch_size":1,"color":1}},"2":{"class_type":"SaveImage","inputs":{"images":["1",0],"filename_prefix":"done"}}}');
INSERT INTO "graphs" VALUES('4622c107-bece-40e9-870a-a8799a836e52','{"1":{"class_type":"EmptyImage","inputs":{"width":32,"height":32,"batch_size":1,"color":2}},"2":{"class_type":"SaveImage","inputs":{"images":["3",0],"filename_prefix":"failed"}},"3":{"class_type":"BridgeFail","inputs":{"image":["1",0],"message":"no luck"}}}');
INSERT INTO "graphs" VALUES('df6c77d8-3cec-4806-80c1-69add62bc0b3','{"1":{"class_type":"BridgeSlowImage","inputs":{"width":16,"height":16,"color":1,"steps":3,"step_ms": 10}},"2":{"class_type":"SaveImage","inputs":{"images":["1",0],"filename_prefix":"running"}}}');
INSERT INTO "graphs" VALUES('cd7c142e-775f-4bae-a0f0-e0b1089fef30','{"1":{"class_type":"EmptyImage","inputs":{"width":32,"height":32,"batch_size":1,"color":3}},"2":{"class_type":"SaveImage","inputs":{"images":["1",0],"filename_prefix":"waiting"}}}');
INSERT INTO "graphs" VALUES('1a357f03-28bd-4c86-83bc-b608b6d46c25','{"1":{"class_type":"EmptyImage","inputs":{"width":32,"height":32,"batch_size":1,"color":4}},"2":{"class_type":"SaveImage","inputs":{"images":["1",0],"filename_prefix":"urgent"}}}');
CREATE TABLE idempotency_keys (
	client TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	digest TEXT NOT NULL, 
	job_id TEXT NOT NULL, 
	position INTEGER NOT NULL, 
	created_at BIGINT NOT NULL, 
	CONSTRAINT pk_idempotency_keys PRIMARY KEY (client, "key"), 
	CONSTRAINT fk_idempotency_keys_job_id FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE
);
CREATE TABLE jobs (
	seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	id TEXT NOT NULL, 
	client TEXT NOT NULL, 
	lane TEXT NOT NULL, 
	priority INTEGER NOT NULL, 
	status TEXT NOT NULL, 
	created_at BIGINT NOT NULL, 
	node_count INTEGER NOT NULL, 
	attempt INTEGER NOT NULL, 
	engine TEXT, 
	prompt_id TEXT, 
	started_at BIGINT, 
	finished_at BIGINT, 
	progress FLOAT NOT NULL, 
	current_node TEXT, 
	current_node_title TEXT, 
	eta_ms BIGINT, 
	cancel_requested BOOLEAN NOT NULL, 
	cancel_reason TEXT, 
	failure TEXT, 
	warnings TEXT, 
	output_count INTEGER NOT NULL, 
	queue_timeout_ms BIGINT, 
	run_timeout_ms BIGINT, 
	queue_deadline BIGINT, 
	retry_of TEXT, 
	oom_retried BOOLEAN, 
	failure_kind TEXT, 
	gpu_seconds FLOAT, 
	peak_vram_bytes BIGINT, 
	share_tag BIGINT DEFAULT '0' NOT NULL, 
	shape TEXT, 
	waiting_for TEXT, 
	held_since BIGINT, 
	retried_by TEXT, 
	CONSTRAINT uq_jobs_id UNIQUE (id)
);
INSERT INTO "jobs" VALUES(1,'00dd368f-6fbc-43a3-bd16-49d26501b640','local','local',1,'completed',1795963032030,2,1,'127.0.0.1:38683','9cc7f19c-93d6-4888-83ea-19c42a146a31',1795963032092,1795963032465,1.0,NULL,NULL,NULL,0,NULL,NULL,NULL,1,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,0,'89adb2a7cfadd92be459c371706a5003',NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(2,'4622c107-bece-40e9-870a-a8799a836e52','local','local',1,'failed',1795963035354,3,1,'127.0.0.1:38683','586bd463-24ef-4e94-9c7a-03fdbee2ac42',1795963035407,1795963035413,0.0,NULL,NULL,NULL,0,NULL,'{"kind":"node_error","message":"RuntimeError: no luck","node_id":"3","node_type":"BridgeFail","detail":"RuntimeError: no luck\n\n  File \"/opt/comfy-bridge/comfy_mcp/embedded/execution.py\", line 128, in _execute\n    result = self._node(node_id).run(context, inputs)\n             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^\n  File \"/opt/comfy-bridge/comfy_mcp/embedded/nodes/own.py\", line 76, in <lambda>\n    run=lambda context, inputs: _fail(context, {\"exception_type\": \"RuntimeError\", **inputs}),\n                                ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^\n  File \"/opt/comfy-bridge/comfy_mcp/embedded/nodes/own.py\", line 35, in _fail\n    raise NodeFailure(inputs[\"message\"], kind=inputs[\"exception_type\"])\n\ninputs: {\"image\": [\"Frames(1 of 32x32 RGB)\"], \"message\": [\"no luck\"]}"}',NULL,0,NULL,NULL,NULL,NULL,0,'node_error',NULL,NULL,1,'711a4ef9816101f5ff2e28a0c7e58edb',NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(3,'df6c77d8-3cec-4806-80c1-69add62bc0b3','local','local',1,'running',1795963037131,2,1,'127.0.0.1:38683','480ee2d4-ccee-4c7c-947f-ddcb29f899bf',1795963037223,NULL,0.0,'1','BridgeSlowImage',NULL,0,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,2,'4f69fca7b575f81ce42791464f4ede75',NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(4,'cd7c142e-775f-4bae-a0f0-e0b1089fef30','local','local',1,'queued',1795963039318,2,0,NULL,NULL,NULL,NULL,0.0,NULL,NULL,NULL,0,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,3,'89adb2a7cfadd92be459c371706a5003',NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(5,'1a357f03-28bd-4c86-83bc-b608b6d46c25','local','local',0,'queued',1795963041453,2,0,NULL,NULL,NULL,NULL,0.0,NULL,NULL,NULL,0,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,0,'89adb2a7cfadd92be459c371706a5003',NULL,NULL,NULL);
CREATE TABLE node_durations (
	class_type TEXT NOT NULL, 
	count INTEGER NOT NULL, 
	mean_ms FLOAT NOT NULL, 
	CONSTRAINT pk_node_durations PRIMARY KEY (class_type)
);
INSERT INTO "node_durations" VALUES('EmptyImage',2,0.0);
INSERT INTO "node_durations" VALUES('SaveImage',1,326.0);
CREATE TABLE outputs (
	seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	id TEXT NOT NULL, 
	job_id TEXT NOT NULL, 
	attempt INTEGER NOT NULL, 
	engine TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	filename TEXT NOT NULL, 
	subfolder TEXT NOT NULL, 
	folder_type TEXT NOT NULL, 
	node TEXT, 
	animated BOOLEAN NOT NULL, 
	text TEXT, 
	created_at BIGINT NOT NULL, 
	size BIGINT, 
	sha256 TEXT, 
	CONSTRAINT fk_outputs_job_id FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE, 
	CONSTRAINT uq_outputs_id UNIQUE (id)
);
INSERT INTO "outputs" VALUES(1,'bb63dff6-3c44-4222-8775-51b4c087341e','00dd368f-6fbc-43a3-bd16-49d26501b640',1,'127.0.0.1:38683','image','done_00001_.png','','output','2',0,NULL,1795963032465,321,NULL);
CREATE TABLE vram_shapes (
	shape TEXT NOT NULL, 
	peaks TEXT NOT NULL, 
	need_bytes BIGINT NOT NULL, 
	seen_at BIGINT NOT NULL, 
	CONSTRAINT pk_vram_shapes PRIMARY KEY (shape)
);
CREATE INDEX ix_jobs_queue ON jobs (status, lane, priority, share_tag, seq, prompt_id) WHERE status = 'queued';
CREATE INDEX ix_jobs_client_queue ON jobs (client, lane, priority, share_tag, seq, prompt_id) WHERE status = 'queued';
CREATE INDEX ix_jobs_status_seq ON jobs (status, seq);
CREATE INDEX ix_jobs_queue_deadline ON jobs (status, queue_deadline) WHERE status = 'queued' AND queue_deadline IS NOT NULL;
CREATE INDEX ix_jobs_held ON jobs (status, held_since) WHERE status = 'queued' AND held_since IS NOT NULL;
CREATE INDEX ix_attempts_active ON attempts (engine) WHERE state = 'active';
CREATE INDEX ix_events_job_id_seq ON events (job_id, seq);
CREATE INDEX ix_outputs_job_id_seq ON outputs (job_id, seq);
CREATE INDEX ix_idempotency_keys_job_id ON idempotency_keys (job_id);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('jobs',5);
INSERT INTO "sqlite_sequence" VALUES('events',15);
INSERT INTO "sqlite_sequence" VALUES('outputs',1);
COMMIT;
