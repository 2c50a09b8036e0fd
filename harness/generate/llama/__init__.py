"""The fast decoder for Llama-likes on a GPU: few large products, captured steps."""
