"""The authors' scheduler is diffusers' own by now: its `step` takes the `variance_noise` that theirs was copied for."""

from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

# An alias and no class, so that diffusers reads a pipeline that was saved with it.
DPMSolverMultistepSchedulerInject = DPMSolverMultistepScheduler
