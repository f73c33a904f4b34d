"""nerfacto trained and rendered by Triton kernels and CUDA graphs, on nerfstudio's own parameters.

The mathematics are those of nerfstudio 1.1.5. A checkpoint stays an ordinary one, which every other program reads.

- `support`: what is covered, and why something is not.
- `kernels`, `functions`: positions, hash encoding and proposal networks, with their gradients.
- `field`: the field's networks as one kernel, for rendering.
- `nerfacto`: losses of a batch of rays, and what rays show.
- `photos`: the training photos in GPU memory.
- `steps`: a whole training step as a CUDA graph.
- `frames`: rendering by a CUDA graph.
- `startup`: imports that take seconds and are rarely needed, put off until they are.

Only `support` can be imported on a machine without Triton.
"""

from jobs.radiance.startup import defer_the_compiler

defer_the_compiler()
