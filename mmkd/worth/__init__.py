"""Is a pair worth a distillation, before anything is trained?"""
from .advice import Recommendation, is_better, is_memorised, recommend
from .findings import Findings, MethodFinding, Standing

__all__ = ['Findings', 'MethodFinding', 'Recommendation', 'Standing', 'is_better', 'is_memorised',
           'recommend']
