"""Is a pair worth a distillation, before anything is trained?"""
from .advice import Recommendation, is_better, is_memorised, recommend
from .examine import examine
from .findings import Examination, Findings, MethodFinding, Standing

__all__ = ['Examination', 'Findings', 'MethodFinding', 'Recommendation', 'Standing', 'examine',
           'is_better', 'is_memorised', 'recommend']
