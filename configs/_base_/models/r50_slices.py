# What the detectors on any 2D backbone share: ResNet-50 on stacks of 7 slices, and their collapse,
# which comes before the 2D neck. A leaf changes either in one line, e.g.
# model = dict(backbone=dict(operator=dict(type="TSMConv"))).
#
# All of the backbone is trained, batch norms included: it gets windowed HU, not normalized RGB, so
# ImageNet's statistics do not hold, and an operator in a frozen stage could not learn.
slice_backbone = dict(
    type="SliceBackbone",
    operator=dict(type="AlignShiftConv"),
    num_slices=7,
    backbone=dict(
        type="ResNet",
        depth=50,
        frozen_stages=-1,
        norm_eval=False,
        init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet50"),
    ),
)
slice_collapse = dict(type="SliceCollapse", in_channels=[256, 512, 1024, 2048], num_slices=7)
