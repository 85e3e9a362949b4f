"""When does distillation act in a run? A new hook is a file with a subclass of MMEngine's Hook."""
from .checkpoint import CheckpointHook
from .distill import DistillHook, distillation_of
from .gradient_share import GradientShareHook
from .own import OwnHooks
from .partners import PartnerHook
from .reseed import ReseedHook
from .resume import ResumeHook
from .schedule import DistillScheduleHook
from .state import StateHook
from .teacher_eval import TeacherEvalHook

__all__ = ['CheckpointHook', 'DistillHook', 'DistillScheduleHook', 'GradientShareHook', 'OwnHooks',
           'PartnerHook', 'ReseedHook', 'ResumeHook', 'StateHook', 'TeacherEvalHook',
           'distillation_of']
