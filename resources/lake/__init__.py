"""The lake: objects in a folder or in S3, snapshots, ledgers, checkpoints."""
