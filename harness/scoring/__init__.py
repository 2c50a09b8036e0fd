"""From a completion to a record, and the proofs that its scores mean something."""
