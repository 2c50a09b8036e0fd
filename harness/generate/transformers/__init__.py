"""Models on this machine: continuous batching on transformers' own layers, and the proof that it is right."""
