"""GPUs: NVML where there is a local driver, else what the engines say of themselves."""
