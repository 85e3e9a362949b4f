"""Which trial of a sweep comes next, and what is known of the earlier ones?"""
import os
from functools import partial
from statistics import mean
from typing import Any, Callable, Dict, List, Optional, Tuple

from chain import last_checkpoint
from sweep_report import Trial, chosen, rows_of, write_report
from sweep_space import (
    ALONE,
    Setting,
    as_params,
    as_setting,
    first_setting,
    suggested,
    write_trial,
)
from sweep_trial import (
    CUT,
    DONE,
    FAILED,
    LATE,
    Curve,
    curve_of,
    fill,
    main_score,
    remove_checkpoints,
    run_trial,
    score_again,
    seconds_of,
)
from written import write_kept

from mmkd.reports.runs import read_logs
from mmkd.written_config import config_text

MOST_FAILURES = 3
"""Failed trials in a row that end a sweep."""
LOST = 10.
"""Seconds of the account that may be lost if this process is killed."""
FILLING = 'seconds of filling'

Planned = Tuple[Dict[str, Any], Dict[str, Any]]
"""Parameters and attributes of a trial of Optuna."""


class Sweep:
    """The trials of a sweep, stored by Optuna in `study.db` of the work dir.

    A trial of Optuna that was interrupted has failed there without a reason. It is followed by
    another one with the same parameters and the same folder, in which the training is resumed.

    Args:
        args (argparse.Namespace): Options of tools/sweep.py.
        plan (Plan): What is trained.
    """

    def __init__(self, args: Any, plan: Any) -> None:
        import optuna
        self.optuna, self.args, self.plan = optuna, args, plan
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.study = optuna.create_study(
            storage=f'sqlite:///{os.path.abspath(os.path.join(args.work_dir, "study.db"))}',
            study_name='sweep', direction='maximize', load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=args.startup, n_warmup_steps=2))
        self.weights, self.taus = tuple(args.weights), tuple(args.temperatures)

    # --- what is known ----------------------------------------------------------------------------

    def trials(self) -> List[Trial]:
        """The trials by folder, as they are now."""
        found: Dict[str, Trial] = {}
        final = self.study.user_attrs.get('final', {})
        states = self.optuna.trial.TrialState
        for one in self.study.get_trials(deepcopy=False):
            folder = one.user_attrs.get('folder')
            if folder is None or 'seed' not in one.params:  # killed before it began
                continue
            state = {states.COMPLETE: DONE, states.PRUNED: CUT}.get(
                one.state, FAILED if 'why' in one.user_attrs else LATE)
            before = found[folder].seconds if folder in found else 0.
            found[folder] = Trial(
                folder, as_setting(one.params), one.params['seed'], state,
                one.user_attrs.get('curve', []), before + one.user_attrs.get('seconds', 0.),
                one.user_attrs.get('per_iteration'), final.get(folder),
                one.user_attrs.get('why', ''))
        return list(found.values())

    def spent(self) -> float:
        """Seconds of all trials, and of storing outputs."""
        return (sum(one.seconds for one in self.trials()) +
                self.study.user_attrs.get(FILLING, 0.))

    def remaining(self) -> float:
        """Seconds of the budget that are left."""
        return 3600 * self.args.hours - self.spent()

    # --- what comes next --------------------------------------------------------------------------

    def next_params(self) -> Optional[Planned]:
        """Parameters and attributes of the next trial; None if none is left.

        Interrupted trials come first, then each method as its authors have it, then the search, and
        at the end the best settings with further seeds. The search ends when the rest of the budget
        is what these repetitions will take.
        """
        trials = self.trials()
        for one in trials:
            if one.state == LATE:
                return planned(one.setting, one.seed, folder=one.folder)
        seed = self.args.seeds[0]
        known = {(one.setting, one.seed) for one in trials}
        for space in self.plan.spaces.values():
            setting = first_setting(space)
            if (setting, seed) not in known:
                return planned(setting, seed)
        repetitions = self.repetitions(trials)
        durations = [one.seconds for one in trials if one.state == DONE]
        searched = sum(one.seed == seed for one in trials)
        needed = (len(repetitions) + 1) * mean(durations) if durations else 0.
        if (self.args.trials is None or searched < self.args.trials) and self.remaining() > needed:
            return dict(seed=seed), {}
        for setting, other in repetitions:
            return planned(setting, other)
        return None

    def repetitions(self, trials: List[Trial]) -> List[Tuple[Setting, int]]:
        """Trainings with further seeds that are missing, the best settings and the student alone
        first."""
        first = rows_of([one for one in trials if one.seed == self.args.seeds[0]])
        best = [row.setting for row in first if row.setting.method != ALONE][:self.args.repeat]
        best += [row.setting for row in first if row.setting.method == ALONE]
        known = {(one.setting, one.seed) for one in trials}
        return [(setting, seed) for setting in best for seed in self.args.seeds[1:]
                if (setting, seed) not in known]

    # --- the work ---------------------------------------------------------------------------------

    def run(self) -> str:
        """Run trials until the budget is used up or none is left; the report."""
        states = self.optuna.trial.TrialState
        for one in self.study.get_trials(deepcopy=False, states=(states.RUNNING, )):
            self.study.tell(one.number, state=states.FAIL)  # this process was killed
        while self.study.get_trials(deepcopy=False, states=(states.WAITING, )):
            # It was killed between a request and its trial; `ask` would return that one first.
            self.study.tell(self.study.ask(), state=states.FAIL)
        self.fill()
        failures = 0
        while self.remaining() > 0:
            following = self.next_params()
            if following is None:
                break
            state, why = self.run_one(*following)
            self.report()
            failures = failures + 1 if state == FAILED else 0
            if failures == MOST_FAILURES:
                raise ValueError(f'{failures} trials in a row have failed, the last one because: '
                                 f'{why}; see train.log in the folder of the trial')
        self.score_chosen()
        return self.report()

    def fill(self) -> None:
        """Store the teacher's outputs for the methods that can use them."""
        filled = self.study.user_attrs.get('filled', [])
        groups = {space.points: space for space in self.plan.spaces.values()
                  if space.entries and space.is_cached}
        for points, space in groups.items():
            if list(points) in filled or not self.args.variants or self.remaining() <= 0:
                continue
            print(f'Storing the outputs of the teacher at {", ".join(points)}', flush=True)
            folder = os.path.join(self.args.work_dir, 'filling', '_'.join(points))
            config = write_trial(folder, self.plan.student, self.plan.imports, space,
                                 first_setting(space), 0, self.plan.cached)
            save = partial(self.save_filling, self.study.user_attrs.get(FILLING, 0.))
            done = fill(config, folder, self.clock(save))
            save(done.seconds)
            if done.state == DONE:
                filled = [*filled, list(points)]
                self.study.set_user_attr('filled', filled)

    def save_filling(self, before: float, seconds: float) -> None:
        """Save the seconds of storing outputs: those before this process, and its own."""
        self.study.set_user_attr(FILLING, before + seconds)

    def clock(self, save: Callable[[float], None]) -> Callable[[float], bool]:
        """A function of the seconds of a process that begins now: whether the budget is used up. It
        saves them from time to time."""
        left, saved = self.remaining(), [0.]

        def is_over(seconds: float) -> bool:
            if seconds - saved[-1] > LOST:
                saved.append(seconds)
                save(seconds)
            return seconds > left

        return is_over

    def run_one(self, params: Dict[str, Any], attributes: Dict[str, Any]) -> Tuple[str, str]:
        """Train one trial, or go on with it; its state, and why it failed."""
        count = len(self.trials())
        # Of the number of trials, so that an interruption does not change what is tried.
        self.study.sampler = self.optuna.samplers.TPESampler(seed=count, n_startup_trials=max(
            10, 2 * len(self.plan.spaces)))
        self.study.enqueue_trial(params, attributes)
        trial = self.study.ask()
        setting, seed = suggested(trial, self.plan.spaces, self.args.seeds, self.weights, self.taus)
        name = trial.user_attrs.get('folder') or f'trial{count:03d}'
        trial.set_user_attr('folder', name)
        folder = os.path.join(self.args.work_dir, 'trials', name)
        space = self.plan.spaces[setting.method]
        is_stored = space.is_cached and self.args.variants
        config = write_trial(folder, self.plan.student, self.plan.imports, space, setting, seed,
                             self.plan.cached if is_stored else self.plan.running)
        is_kept = setting.method == ALONE or seed != self.args.seeds[0]
        print(f'{name}: {setting.shown()}, seed {seed}', flush=True)

        def is_bad(curve: Curve) -> bool:
            for step, score in curve[len(told):]:
                # mmdet has no score as long as nothing is detected, so they are not counted.
                trial.report(score, step // self.plan.interval)
                told.append(step)
            return not is_kept and bool(trial.should_prune())

        told: List[int] = []
        clock = self.clock(partial(trial.set_user_attr, 'seconds'))
        done = run_trial(config, folder, clock, is_bad, ['--amp'] if self.args.amp else [])
        trial.set_user_attr('seconds', done.seconds)
        curve = curve_of(folder)
        trial.set_user_attr('curve', curve)
        trial.set_user_attr('per_iteration', seconds_of(folder))
        states = self.optuna.trial.TrialState
        if done.state == FAILED:
            trial.set_user_attr('why', done.why)
        self.study.tell(trial, curve[-1][1] if done.state == DONE else None, {
            DONE: states.COMPLETE, CUT: states.PRUNED}.get(done.state, states.FAIL))
        if done.state == CUT:  # after `tell`: a trial without them cannot go on
            remove_checkpoints(folder)
        print(f'  {done.state}' + (f' at {curve[-1][1]:.4f}' if curve else '') + (
            f': {done.why}' if done.why else ''), flush=True)
        return done.state, done.why

    # --- the result -------------------------------------------------------------------------------

    def score_chosen(self) -> None:
        """Score the chosen setting and the student alone on the test data of the config, which were
        not used to choose."""
        if not self.args.holdout:
            return
        trials = self.trials()
        best = chosen(trials)
        wanted = [one for one in trials if one.state == DONE and (
            one.setting.method == ALONE or (best is not None and one.setting == best.setting))]
        for one in wanted if best is not None else ():
            if one.final is None:
                print(f'{one.folder}: scored on the test data', flush=True)
                folder = os.path.join(self.args.work_dir, 'trials', one.folder)
                scores = score_again(self.plan.plain, last_checkpoint(folder), os.path.join(
                    self.args.work_dir, 'final', one.folder))
                self.study.set_user_attr('final', {
                    **self.study.user_attrs.get('final', {}), one.folder: main_score(scores)})

    def report(self) -> str:
        """Write the report and the config of the chosen setting; the text."""
        trials = self.trials()
        best = chosen(trials)
        path = os.path.join(self.args.work_dir, 'best.py')
        if best is not None:
            space = self.plan.spaces[best.setting.method]
            text = config_text(self.plan.plain, '', None, space.entries_for(best.setting),
                               self.plan.imports, space.around, space.method,
                               network=self.plan.running)
            try:
                write_kept(path, text, 'sweep.py', f'tools/train.py {path}', False)
            except ValueError as error:  # the user has edited it
                print(error)
        metric = next((read_logs(os.path.join(self.args.work_dir, 'trials', one.folder)).metric
                       for one in trials if one.curve), '')
        return write_report(self.args.work_dir, trials, dict(
            self.plan.about, metric=metric, spent=self.spent() / 3600, best_config=path))


def planned(setting: Setting, seed: int, **attributes: Any) -> Planned:
    """A trial of a setting that is known."""
    return as_params(setting, seed), dict(attributes, **{ALONE: setting.method == ALONE})
