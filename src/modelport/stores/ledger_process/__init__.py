"""The shipper in a process of its own: it takes neither the interpreter's lock nor the memory of those who serve, and
the kernel lets it wait for them.

`messages` is what is said over its two pipes, `child` is the process, `parent` starts it, and again where it has ended.
"""
