"""Several processes that serve one address. One parent has the owner role (`owner`); a nursery (`nursery`) has loaded
everything that a worker needs and forks them; a worker (`data_plane`) serves and reaches the owner over a unix socket
(`peer`, `remote_owner`). `docs/decisions/0011-processes.md` says why."""
