"""Training and rendering of radiance fields with nerfstudio.

- `dataset`, `settings`: inspect a dataset, and configure a method for it.
- `trainer`, `datamanager`, `checkpoints`, `randomness`: training that reports progress and resumes exactly.
- `evaluation`: the quality on the held-out photos.
- `renderer`, `viewer`: render the frames of a path, and serve nerfstudio's viewer.
- `methods`, `config_file`: nerfstudio's methods, and its config files, read safely.
- `cpu`, `cuda`, `gpu`: faster code for CPUs, what needs a GPU, and how busy the GPU is.
- `startup`: defers slow imports that are rarely needed.

The other modules train and render nerfacto with Triton kernels and CUDA graphs, on nerfstudio's own parameters. The
mathematics are those of nerfstudio 1.1.5, and every other program can read the checkpoints.

- `support`: which configs, photos and machines are covered.
- `kernels`, `functions`: positions, hash encoding and proposal networks, with their gradients.
- `field`: the field's networks as one kernel, for rendering.
- `nerfacto`: the losses of a batch of rays, and the colours and depths of rays.
- `photos`: the training photos in GPU memory.
- `steps`: a whole training step as a CUDA graph.
- `frames`: rendering with a CUDA graph.
- `precompile`: a program that compiles the kernels before any job runs, for the job image.

Of these, only `support` can be imported on a machine without Triton.
"""

from jobs.radiance.startup import defer_the_compiler

defer_the_compiler()
