"""Parts of a network that keep their weights: its backbone, or its first groups, for a whole run or its first epochs.

The groups are those of layer-wise decay (`train.groups`): 0 the stem, then three blocks each. A part that is frozen
computes as in evaluation: batch norm keeps its statistics, and no block is dropped. Its parameters have no gradient, so
neither the optimizer nor its weight decay touches them, and their moving average is what they are.
"""

from __future__ import annotations

from torch import nn

from convnext.errors import RecipeError
from convnext.nn.convnext.backbone import ConvNeXt
from convnext.nn.network import Network
from convnext.nn.spec import spec_of
from convnext.recipe import Recipe
from convnext.train.groups import layer_of, layers
from convnext.train.plan import Plan


def frozen_names(model: nn.Module, freeze: int | str) -> frozenset[str]:
    """The parameters that `train.freeze` holds fast.

    Args:
        model: the whole network.
        freeze: "backbone" for all but the head, or how many groups from the stem on; 0 for none.

    Raises:
        RecipeError: groups of a network that is no ConvNeXt of our own table, or so many that nothing is left to learn.
    """
    if freeze == "backbone":
        head = {id(parameter) for parameter in model.classifier().parameters()} if isinstance(model, Network) else set()
        return frozenset(name for name, parameter in model.named_parameters() if id(parameter) not in head)
    count = int(freeze)
    if count == 0:
        return frozenset()
    if not isinstance(model, ConvNeXt):
        raise RecipeError(
            f'train.freeze = {count} is for the ConvNeXts of our own table, whose groups are known; "backbone" freezes '
            "all but the head of any network"
        )
    most = layers(model.depths) - 1
    if count > most:
        raise RecipeError(
            f"train.freeze = {count}: this network has {most} groups before its head (the stem, then three blocks "
            f'each); give {most} at most, or "backbone"'
        )
    return frozenset(name for name, _ in model.named_parameters() if layer_of(name, model.depths) < count)


class Freezing:
    """Who learns when. Made once a run; `begin` is called at the beginning of every epoch.

    Args:
        model: the network, all of whose parameters may learn.
        recipe: its train.freeze and train.freeze_epochs.
    """

    def __init__(self, model: nn.Module, recipe: Recipe) -> None:
        self.names = frozen_names(model, recipe.train.freeze)
        self.until = recipe.train.freeze_epochs
        self.held = False

    def begin(self, model: nn.Module, epoch: int) -> bool:
        """Puts the network into training mode for the epoch after `epoch`; whether other parameters learn in it."""
        model.train()
        held = bool(self.names) and (self.until == 0 or epoch < self.until)
        changed, self.held = held != self.held, held
        if changed:
            for name, parameter in model.named_parameters():
                if name in self.names:
                    parameter.requires_grad_(not held)
        if held:
            for module in model.modules():
                own = list(module.parameters())
                if own and not any(parameter.requires_grad for parameter in own):
                    module.eval()
        return changed


def refuse_freezing(recipe: Recipe) -> frozenset[str]:
    """The names that are frozen, of a recipe whose settings go together.

    Raises:
        RecipeError: epochs without anything frozen, groups that are not there, or epochs of a network in shares.
    """
    train = recipe.train
    if train.freeze == 0 and train.freeze_epochs:
        raise RecipeError(
            f"train.freeze_epochs = {train.freeze_epochs}, but nothing is frozen: set train.freeze too, as "
            "train.freeze=backbone"
        )
    if train.freeze_epochs and train.sharding == "fsdp2":
        raise RecipeError(
            'train.freeze_epochs does not go with train.sharding = "fsdp2"; freeze the whole run, or use "ddp"'
        )
    return frozen_names(spec_of(recipe).on_meta(), train.freeze) if train.freeze else frozenset()


def examine_freezing(plan: Plan) -> None:
    """Refuses what cannot learn, and says how much of the network keeps its weights.

    Raises:
        RecipeError: random weights would be held fast, or as `refuse_freezing`.
    """
    train = plan.recipe.train
    if train.freeze != 0 and plan.recipe.weights == "none":
        raise RecipeError(
            f"train.freeze = {train.freeze}, but the network starts from random weights (weights = none), which would "
            "then stay as they are; give weights=, or leave train.freeze out"
        )
    if not (names := refuse_freezing(plan.recipe)):
        return
    model = spec_of(plan.recipe).on_meta()
    head = {id(parameter) for parameter in model.classifier().parameters()}
    body = {name: p.numel() for name, p in model.named_parameters() if id(p) not in head}
    held = sum(count for name, count in body.items() if name in names)
    last = [name for name in body if name in names][-1].rpartition(".")[0]
    when = f"in the first {train.freeze_epochs} epochs" if train.freeze_epochs else "in the whole run"
    share = f"{held / 1e6:.2f} of the {sum(body.values()) / 1e6:.2f} M weights before the head"
    plan.note("train.freeze", f"{share}, up to {last}, stay {when}")
