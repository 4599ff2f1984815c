"""The publisher: executes the chapters with papermill and builds their pages with Jupyter Book."""
