"""What is said of keys that are wrong: for one that does not exist what does the job, for a list a right example."""

from __future__ import annotations

import re
from collections.abc import Collection
from shlex import quote

_LISTS = {
    "task.targets": ('["age","weight"]', ""),
    "task.range": ("[0,192]", ""),
    "task.within": ("[1,5]", ""),
    "data.mean": ("[0.485,0.456,0.406]", " (a number for each channel)"),
    "data.std": ("[0.229,0.224,0.225]", " (a number for each channel)"),
    "data.value_range": ("[0,4095]", ""),
    "data.classes": ('["cat","dog"]', ""),
    "data.ignore_columns": ('["phase"]', ""),
    "train.betas": ("[0.9,0.999]", ""),
    "train.replanned": ("[[120,300]]", ""),
}
"""Keys whose values are lists, each with one that is right, and what there is to say of it."""

_NAMES = {
    "weights": "pretrained checkpoint ckpt initweights initcheckpoint pretrainedweights finetune finetunefrom loadfrom",
    "model.name": "arch architecture backbone modelname network net variant encoder",
    "model.in_chans": "channels inchannels inputchannels numchannels grayscale gray greyscale",
    "model.stem_patch": "patchsize stem stemsize stemstride patch",
    "model.drop_path": "dropout droprate drop droppathrate stochasticdepth stochasticdepthprob dropblock attndrop",
    "model.layer_scale": "layerscaleinit layerscaleinitvalue gamma lsinitvalue",
    "model.checkpointing": "gradcheckpointing gradientcheckpointing usecheckpoint activationcheckpointing",
    "data.root": "path dir folder dataset datadir datapath traindir imagefolder datafolder",
    "data.size": "imagesize imgsize imsize imgsz inputsize resolution res side resize height width cropsize trainsize",
    "data.eval_size": "valsize testsize evalsize evalresolution evalcrop testresolution valimagesize",
    "data.crop_ratio": "croppct centercrop testcrop evalcroppct cropfraction",
    "data.interpolation": "resample resampling interpolationmode filter",
    "data.normalization": "normalise normalize norm normalisation",
    "data.val": "valsplit valratio valshare valfraction validationsplit validpct valpct valpercent validsplit holdout",
    "data.test": "testsplit testratio testshare testfraction testpct",
    "data.classes": "classnames labels numclasses nclasses nbclasses numlabels labelnames",
    "data.path_column": "imagecolumn imagecol filecolumn filenamecolumn fncol xcol pathcol imagekey",
    "data.label_column": "labelcol ycol target targetcolumn targetcol classcolumn labelkey classcol",
    "data.label_separator": "separator sep delimiter labeldelim labeldelimiter multilabel labelsep",
    "data.split_column": "splitcol validcol foldcolumn foldcol isvalid splitkey",
    "data.val_fold": "fold folds kfold nfolds kfolds valfolds",
    "data.group_column": "group groups groupby groupcol patientcolumn patientid",
    "data.ignore_columns": "ignore ignored dropcolumns exclude",
    "data.workers": "numworkers nworkers nbworkers dataloaderworkers threads jobs dataloadernumworkers",
    "data.cache_gb": "cache cacheimages ram cacheram memory cachesize",
    "data.disk_cache_gb": "diskcache cachedisk",
    "data.fit": "cropmode resizemode letterbox squash pad",
    "data.mean": "means normmean imagemean pixelmean",
    "data.std": "deviation stds stddev normstd imagestd pixelstd",
    "augment.crop_min": "scale minscale rrcscale randomcrop randomresizedcrop crop mincrop",
    "augment.flip": "hflip horizontalflip fliplr mirror randomhorizontalflip horizontal",
    "augment.vertical_flip": "vflip verticalflip flipud randomverticalflip vertical",
    "augment.rotation": "rotate rotation randomrotation degrees angle",
    "augment.color_jitter": "colorjitter colourjitter colorjitterprob jitter brightness contrast saturation hue",
    "augment.randaugment": "aa autoaugment randaug trivialaugment augmix autoaug augmentation",
    "augment.erasing": "reprob randomerasing cutout erase randomerase",
    "augment.mixup": "mixupalpha mixing",
    "augment.cutmix": "cutmixalpha",
    "augment.mix_probability": "mixupprob mixprob cutmixprob",
    "augment.mix_switch": "mixupswitchprob switchprob",
    "augment.label_smoothing": "smoothing labelsmooth smooth loss criterion lossfn lossfunction crossentropy",
    "train.epochs": "epoch numepochs nepochs maxepochs numtrainepochs totalepochs steps maxsteps iterations iters",
    "train.minutes": "time budget timelimit maxtime hours duration timebudget",
    "train.batch": "batchsize bs minibatch trainbatchsize perdevicetrainbatchsize batchsizepergpu",
    "train.micro_batch": "microbatch gradaccum gradaccumsteps accumulation gradientaccumulation updatefreq "
    "gradientaccumulationsteps accumulate accumulategradbatches accumulationsteps",
    "train.lr": "learningrate baselr initiallr maxlr peaklr lr0 eta initlr blr rate",
    "train.layer_decay": "llrd layerwisedecay layerdecayrate",
    "train.min_lr": "minimumlr etamin lrmin finallr lrf scheduler schedule lrscheduler sched cosine lrschedule",
    "train.warmup_epochs": "warmup warmupsteps warmuplr warmupratio",
    "train.weight_decay": "wd l2 decay regularization l2regularization",
    "train.betas": "beta beta1 beta2 adambetas optbetas",
    "train.optimizer": "optimiser opt optim optimizername",
    "train.momentum": "sgdmomentum",
    "train.freeze": "freezebackbone frozen freezelayers freezestages freezeencoder frozenstages trainablelayers "
    "unfreeze linearprobe freezeat finetunelayers",
    "train.class_balance": "classweights classweight weightedloss weightedsampler oversample oversampling sampler "
    "balance balanced focal focalloss rebalance posweight",
    "train.clip_grad": "gradclip clip maxgradnorm maxnorm clipgradnorm gradientclipval clipnorm gradientclip clipvalue",
    "train.ema": "modelema useema averaging swa",
    "train.ema_decay": "modelemadecay emamomentum",
    "train.patience": "earlystopping earlystop stoppatience earlystoppingpatience",
    "train.precision": "amp mixedprecision fp16 bf16 half dtype autocast useamp float16 tf32",
    "train.compile": "torchcompile jit",
    "train.device": "gpu gpus cuda accelerator devices usecpu",
    "train.seed": "randomstate randomseed manualseed",
    "train.save_every": "savefreq checkpointinterval saveinterval savesteps savefrequency",
    "train.keep_last": "savetotallimit savetopk maxcheckpoints",
    "train.logger": "tensorboard wandb mlflow log logging loggers reportto",
}
"""For each key the names of other tools and papers, without what joins their words."""


def same_job(key: str, keys: Collection[str]) -> str:
    """The key, of those there are, that does what another name asks for; "" where none is known to."""
    word = re.sub(r"[\W_]+", "", key.rpartition(".")[2]).casefold()
    return next((name for name, words in _NAMES.items() if word in words.split() and name in keys), "")


def as_list(key: str) -> str:
    """`, as 'data.mean=[0.5]'`: a setting of a list as a shell takes it; "" for keys of other values."""
    value, more = _LISTS.get(key, ("", ""))
    return f", as {quote(f'{key}={value}')}{more}" if value else ""
