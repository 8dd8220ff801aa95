"""JupyterLab: its launch, its extension, and the cluster's pages through its server."""
