"""The control plane of this server: the file's configuration and the stored objects, as one."""
