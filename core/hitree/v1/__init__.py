"""The wire contract's messages and stubs, generated from proto/ by scripts/generate."""
