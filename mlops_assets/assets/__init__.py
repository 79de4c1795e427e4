"""One file per stage of the life cycle, in the order of the flow.

Dagster reads the annotations of an asset as they stand, so none of these files postpones them.
"""
