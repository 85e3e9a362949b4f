"""A teacher that is the average of the student's weights at the ends of all epochs (SWA).

    custom_imports = dict(imports=['mmkd', 'epoch_mean_teacher'], allow_failed_imports=False)
    teacher=dict(type='mmkd.AverageOfEpochs')
"""
import copy

import torch

from mmkd import MODELS, BaseTeacher


@MODELS.register_module()
class AverageOfEpochs(BaseTeacher):
    """Averages the student's weights at the end of every epoch so far."""

    needs_epochs = True    # training by iterations raises an error
    shares_classes = True  # it has the classes of the student

    def prepare(self, student):
        self.student = student
        self.model = copy.deepcopy(student).eval().requires_grad_(False)
        self.epochs = 0
        self.is_ready = False  # there is no average in the first epoch

    def after_epoch(self, epoch):
        self.epochs += 1
        for mean, own in zip(self.model.state_dict().values(), self.student.state_dict().values()):
            if mean.is_floating_point():
                mean.lerp_(own, 1 / self.epochs)
        self.is_ready = True

    def state_dict(self):  # saved with the student's checkpoint, for --resume
        return {**self.model.state_dict(), 'epochs': torch.tensor(self.epochs)}

    def load_state_dict(self, state):
        state = dict(state)
        self.epochs = int(state.pop('epochs'))
        self.is_ready = self.epochs > 0
        self.model.load_state_dict(state)
