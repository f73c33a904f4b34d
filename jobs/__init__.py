"""The programs that run inside a job: `python -m jobs.<stage>`. No Prefect, no Azure, no network."""
