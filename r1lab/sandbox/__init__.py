"""`worker` runs code on untrusted text, in a process with limits."""
