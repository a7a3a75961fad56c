"""Pictures of what the attention looks at."""
