"""Evaluate a checkpoint. A distilled model needs no teacher for it.

    python tools/test.py configs/dist/retinanet_r50.py work_dirs/retinanet_r50/epoch_24.pth
"""
import argparse

from common import add_common_options, build_runner, load_config
from mmengine.config import Config
from mmengine.registry import METRICS


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Evaluate a checkpoint')
    parser.add_argument('config', help='path of the config')
    parser.add_argument('checkpoint', help='path or address of the checkpoint')
    parser.add_argument('--out', help='write the predictions to this .pkl file')
    parser.add_argument('--show', action='store_true', help='show the predictions in a window')
    parser.add_argument('--show-dir', help='save the painted predictions in this folder, which '
                        'lies in the work dir, under the run\'s time')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds per window')
    add_common_options(parser)
    args = parser.parse_args()
    if args.out is not None and not args.out.endswith(('.pkl', '.pickle')):
        parser.error(f'--out must end in .pkl or .pickle, but got {args.out}')
    return args


def show_predictions(config: Config, args: argparse.Namespace) -> None:
    """Turn on the visualization hook of mmdet and mmseg configs."""
    hook = config.default_hooks.get('visualization')
    if hook is None:
        raise SystemExit('--show and --show-dir need default_hooks.visualization in the config; '
                         'inherit a default_runtime of mmdet or mmseg')
    hook.draw = True
    hook.show = args.show
    hook.wait_time = args.wait_time
    if args.show_dir:
        hook.test_out_dir = args.show_dir
        if hook.type.rpartition('.')[2] == 'SegVisualizationHook':
            hook.pop('test_out_dir')
            config.visualizer.save_dir = args.show_dir


def main() -> None:
    args = parse_args()
    config = load_config(args)
    config.load_from = args.checkpoint
    if args.show or args.show_dir:
        show_predictions(config, args)
    runner = build_runner(config)
    if args.out is not None:
        # mmdet's own packs masks; other projects use MMEngine's.
        dump = 'DumpDetResults' if config.get('default_scope') == 'mmdet' else 'DumpResults'
        runner.test_evaluator.metrics.append(
            METRICS.build(dict(type=dump, out_file_path=args.out)))
    runner.test()


if __name__ == '__main__':
    main()
