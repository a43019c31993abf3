"""MLMD's gRPC service on a store."""
