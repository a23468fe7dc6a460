"""Know PowerPC: decode and encode instructions, what they read and write, the calling conventions."""
