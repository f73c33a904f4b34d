"""The programs that run inside a job: `python -m jobs.<stage>`. No Prefect, no Azure, no network.

- Programs: `prepare`, `train`, `render`, `shard`, `compare`, `export`, `page`, `scale`, `changes`, `view`, `facade`
  (draws the photos of the demo), `model` (writes a config for nerfstudio's own tools) and `check` (tries the
  environment; what it tries is in `probes`).
- The contract, which the scheduler (flows, tasks, blocks and deployments) may import: `base_options`, `camera_path`,
  `code`, `environment`, `errors`, `manifest`, `media` (with `selection` and `memory`), `methods`, `names`, `options`,
  `profiles`, `program`, `report`, `text` and `validation`. None of them imports torch, nerfstudio or pycolmap.
- Shared by all rooms: `geometry` (similarities and rotations) and `ply`.
- Rooms: `pictures`, `sfm`, `radiance`, `path`, `metric`, `visits`, `video`, `splats`, `web` and `demo`. `path` and
  `web` need only numpy, and so do `accuracy`, `cameras`, `given`, `control`, `scene` and `picking` of `metric`. The
  scheduler imports them too: it checks camera paths and measurements, and writes summaries.
"""

import gc
import os
import sys

if sys.argv[:1] == ["-m"] and " ".join(sys.orig_argv).partition(" -m ")[2].startswith("jobs."):
    gc.disable()  # `python -m jobs.NAME` imports this package first. The program calls `report.end_imports`

# Before torch is imported: threads that wait for each other sleep. GNU OpenMP lets them spin, which beside other
# programs on two cores took four to six times the CPU time for the same training step.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
