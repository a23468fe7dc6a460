"""One-line programs that watch a kernel: read, turned into C payloads, and what they gathered read out."""
