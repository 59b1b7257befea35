"""The bag store: Parquet shards, their manifest, readers, writers and tools."""
