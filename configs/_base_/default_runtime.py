custom_imports = dict(imports=["deeplesion"], allow_failed_imports=False)
default_scope = "mmdet"

default_hooks = dict(
    runtime_info=dict(type="BatchLossHook"),
    timer=dict(type="IterTimerHook"),
    logger=dict(type="CTLoggerHook", interval=50),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(
        type="ResumableCheckpointHook",
        interval=1,
        max_keep_ckpts=3,
        every_minutes=15,  # between those of the epochs
        save_best="froc/mean",
        rule="greater",
    ),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    # Steps that are not finite are skipped; so many of them stop the training.
    guard=dict(type="NonFiniteGuardHook", max_in_a_row=10, max_in_all=100),
    scalars=dict(type="ScalarsHook"),
)
# For batch norms that are normalized per process (sync_bn=None): their running statistics are
# averaged over processes.
custom_hooks = [
    dict(type="SyncBuffersHook"),
    dict(type="ValidationOverlayHook"),
    dict(type="SummaryHook"),
]
# Batch norms take the batches of all processes, on any device.
sync_bn = "torch"

env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=1),
    dist_cfg=dict(backend="nccl"),
)
randomness = dict(seed=0)

trackers = []  # ["wandb", "mlflow"]: where curves and pictures go beside TensorBoard
vis_backends = [dict(type="LocalLogBackend"), dict(type="CTTensorboardBackend")]
visualizer = dict(type="Visualizer", vis_backends=vis_backends, name="visualizer")
log_processor = dict(type="LogProcessor", window_size=50, by_epoch=True, log_with_hierarchy=True)
log_level = "INFO"
load_from = None
resume = False
compile_parts = []  # ["backbone", "neck"]: torch.compile for them
