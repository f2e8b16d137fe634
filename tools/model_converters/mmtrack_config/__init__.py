"""Parts of from_mmtrack_config.py, an idea each."""
