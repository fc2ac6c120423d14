"""Names in a data set whose run is unfinished."""

WORK = ".work"  # Folder of what a complete run leaves nothing of.
RECORDS = "records"  # Folder in it: what the catalog needs of each published shard.
