"""The supervisor: supervisord with warm-forked channels, and the reconciler that tells it which are wanted."""
