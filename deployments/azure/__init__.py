"""What an Azure subscription needs: the job environment, clusters, and the commands for people."""
