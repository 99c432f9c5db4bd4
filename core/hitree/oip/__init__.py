"""The Open Inference Protocol's messages and stubs, generated from proto/ by scripts/generate."""
