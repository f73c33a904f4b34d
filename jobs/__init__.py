"""The programs that run inside a job: `python -m jobs.<stage>`. No Prefect, no Azure, no network."""

import os

# Before torch is imported: threads that wait for each other sleep. GNU OpenMP lets them spin, which beside any other
# program on the machine takes six times the CPU time for the same training step, and gains nothing measurable alone.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
