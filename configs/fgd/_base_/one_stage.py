"""FGD's values for one-stage students; the comments have the names of the authors' configs."""
fgd = dict(
    type='mmkd.FGDLoss',
    on='neck',  # neck.fpn_convs.0.conv to neck.fpn_convs.4.conv
    foreground=1e-3,  # alpha_fgd=0.001
    background=5e-4,  # beta_fgd=0.0005
    attention=5e-4,  # gamma_fgd=0.0005
    relation=5e-6,  # lambda_fgd=0.000005
    tau=0.5)  # temp=0.5
fgd_of_points = dict(
    fgd,
    foreground=1.6e-3,  # alpha_fgd=0.0016
    background=8e-4,  # beta_fgd=0.0008
    attention=8e-4,  # gamma_fgd=0.0008
    relation=8e-6)  # lambda_fgd=0.000008
