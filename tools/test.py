"""Evaluate a checkpoint. A distilled model is evaluated without its teacher.

    python tools/test.py configs/dist/retinanet_r50.py work_dirs/retinanet_r50/epoch_24.pth
"""
import argparse
from typing import Optional

from command import Parser, run
from common import add_common_options, build_runner, check_checkpoint, load_config
from mmengine.config import Config
from mmengine.registry import METRICS


def parse_args() -> argparse.Namespace:
    parser = Parser(description='Evaluate a checkpoint')
    parser.add_argument('config', help='path of the config')
    parser.add_argument('checkpoint', help='path or address of the checkpoint')
    parser.add_argument('--out', help='write the predictions to this .pkl file, or those of a '
                        'segmentor as pictures into this folder')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation, as '
                        '`tta_model` and `tta_pipeline` of the config describe it')
    parser.add_argument('--show', action='store_true', help='show the predictions in a window')
    parser.add_argument('--show-dir', help='save images with the predictions in this folder, '
                                           'inside of the work dir, under the time of the run')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds per window')
    add_common_options(parser)
    return parser.parse_args()


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


def augment(config: Config) -> None:
    """Wrap the model and swap the pipeline for test-time augmentation."""
    if 'tta_model' not in config or 'tta_pipeline' not in config:
        raise SystemExit('--tta needs tta_model and tta_pipeline in the config; inherit those of '
                         'mmdet (_base_/schedules/schedule_*.py) or mmseg (_base_/datasets)')
    config.test_dataloader.dataset.pipeline = config.tta_pipeline
    config.model = dict(config.tta_model, module=config.model)


def write_predictions(config: Config, out: str) -> Optional[dict]:
    """Make the metrics write the predictions; returns an additional metric if one is needed."""
    scope = config.get('default_scope')
    if out.endswith(('.pkl', '.pickle')):
        # The metric of mmdet packs masks; other projects use that of MMEngine.
        return dict(type='DumpDetResults' if scope == 'mmdet' else 'DumpResults',
                    out_file_path=out)
    if scope != 'mmseg' or not isinstance(config.test_evaluator, dict):
        raise SystemExit(f'--out must end in .pkl or .pickle, but got {out}; a folder is supported '
                         'only for segmentors with one metric')
    config.test_evaluator.update(output_dir=out, keep_results=True)
    return None


def main() -> None:
    args = parse_args()
    config = load_config(args)
    config.load_from = args.checkpoint
    config.resume = False
    if args.show or args.show_dir:
        show_predictions(config, args)
    if args.tta:
        augment(config)
    metric = write_predictions(config, args.out) if args.out is not None else None
    check_checkpoint(args.checkpoint, 'the checkpoint')
    runner = build_runner(config)
    if metric is not None:
        runner.test_evaluator.metrics.append(METRICS.build(metric))
    runner.test()


if __name__ == '__main__':
    run(main)
