"""What every request passes on its way in, and what answers without a key."""
