"""The files of HiTree's default bundle; data only, read through ``importlib.resources``."""
