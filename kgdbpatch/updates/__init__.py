"""Make hot patches of source patches, and keep them in files."""
