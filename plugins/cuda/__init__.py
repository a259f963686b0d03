"""The frame on an NVIDIA GPU: kernels that draw what `plugins.Renderer` draws, launched on the caller's stream.

    library = cuda.load()                                   # BackendError where it was not built
    blob = library.pack(scene)                              # uint8 array: copy it to the device, 256-byte aligned
    plan = library.plan(blob, cuda.Options(width=512, height=512))
    plan.bind(device_blob, device_workspace, plan.workspace_bytes)
    plan.run(cuda.Buffers(controls=…, expression=…, picture=…, status=…), stream)

The library never allocates device memory, never copies between host and device, and never waits; all memory is the
caller's, and pointers and streams are integers. Everything that changes between frames (`controls`, the network's
expression and jaw) is read from device memory, so a captured CUDA graph of `run` serves every frame. A plan belongs to
one thread at a time and its frames to one stream.

`status` is read back with the picture. Where it reports an overflow the picture was *not* written: bind a workspace to
`plan.grown(status)`, and draw the frame again.
"""

from .binding import STATUS_BYTES, Array, Buffers, Library, Options, Plan, Stages, Status, controls, load

__all__ = ["STATUS_BYTES", "Array", "Buffers", "Library", "Options", "Plan", "Stages", "Status", "controls", "load"]
