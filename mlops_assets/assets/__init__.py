"""One file per stage of the life cycle, in the order of the flow."""
