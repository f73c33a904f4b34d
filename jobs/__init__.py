"""The programs that run inside a job: `python -m jobs.<stage>`. No Prefect, no Azure, no network."""

import os

# Before torch is imported: threads that wait for each other sleep. GNU OpenMP lets them spin, which beside other
# programs on two cores took four to six times the CPU time for the same training step.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
