"""A candidate's code runs in a process of its own: fork server, line protocol, wall limit."""
