"""Three changes to dm_control that make Memory Maze several times faster and smaller. Every image stays the same.

Touching targets: after each of the 50 substeps of an action, every target searches all contacts in a Python loop. Here it
compares the array of contacts at once.

Rendering: dm_control makes a camera with its own scene for every frame, and frees it. Here a simulation keeps its cameras.

Textures: the package loads every wall texture ten times, 88 images of 1024 x 1024, of which a maze shows at most nine and the
floors. Here those that no material uses are left out before the model is compiled.
"""

import xml.etree.ElementTree as ElementTree
from typing import Any

import numpy as np
from dm_control import mjcf
from dm_control.locomotion.props.target_sphere import TargetSphere
from dm_control.mujoco import engine

_stock_render = engine.Physics.render
_stock_reload = engine.Physics._reload_from_data
_stock_free = engine.Physics.free


def apply() -> None:
    """Change dm_control in this process."""
    TargetSphere._update_activation = _update_activation
    engine.Physics.render = _render
    engine.Physics._reload_from_data = _reload_from_data
    engine.Physics.free = _free
    mjcf.Physics.from_xml_string = classmethod(_from_xml_string)


def _update_activation(self: TargetSphere, physics: Any) -> None:
    if self._activated or physics.data.ncon == 0:
        return
    geoms = physics.data.ptr.contact.geom  # (contacts, 2)
    touched = (geoms == self._geom_id).any(axis=1)
    if self._specific_collision_geom_ids:
        touched &= np.isin(geoms, list(self._specific_collision_geom_ids)).any(axis=1)
    if touched.any():
        self._activated = True
        physics.bind(self._material).rgba[-1] = 0


def _render(
    self: engine.Physics, height: int = 240, width: int = 320, camera_id: int | str = -1, **options: Any
):
    if any(options.values()):  # overlays, depth, segmentation: as dm_control does it
        return _stock_render(self, height, width, camera_id, **options)
    cameras = self.__dict__.setdefault("_kept_cameras", {})
    key = camera_id, height, width
    if key not in cameras:
        cameras[key] = engine.Camera(self, height, width, camera_id)
    return cameras[key].render().copy()  # the next frame overwrites the camera's buffer


def _reload_from_data(self: engine.Physics, data: Any) -> None:
    _forget_cameras(self)  # their scenes belong to the old model
    _stock_reload(self, data)


def _free(self: engine.Physics) -> None:
    _forget_cameras(self)
    _stock_free(self)


def _forget_cameras(physics: engine.Physics) -> None:
    for camera in physics.__dict__.pop("_kept_cameras", {}).values():
        camera._scene.free()


def _from_xml_string(cls: type[mjcf.Physics], xml_string: str, assets: dict[str, bytes] | None = None):
    model = ElementTree.fromstring(xml_string)
    named = {material.get("texture") for material in model.iter("material")}
    for section in model.iter("asset"):
        for texture in section.findall("texture"):
            if texture.get("type") == "2d" and texture.get("name") not in named:
                section.remove(texture)
    files = {element.get("file") for element in model.iter()}
    assets = {name: data for name, data in (assets or {}).items() if name in files}
    return super(mjcf.Physics, cls).from_xml_string(ElementTree.tostring(model, encoding="unicode"), assets)
