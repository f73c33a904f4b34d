"""Setting up and using an Azure ML workspace: commands, and the job environment."""
