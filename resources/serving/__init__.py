"""Where versions are served: this machine, or KServe."""
