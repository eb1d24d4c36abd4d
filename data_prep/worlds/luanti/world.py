"""The home directory of the engine: settings, a world, and the two mods."""

import shutil
from pathlib import Path

GAME = "minetest"  # Minetest Game
_MODS = Path(__file__).parent

_SETTINGS = {
    "video_driver": "opengl",
    "fps_max": 200,
    "fps_max_unfocused": 200,
    "pause_on_lost_focus": "false",
    "autosave_screensize": "false",
    "enable_client_modding": "true",
    "csm_restriction_flags": 0,
    "enable_mod_channels": "true",
    "secure.trusted_mods": "raddrv",
    "dedicated_server_step": 0.02,
    "mg_name": "v7",
    # Nothing may change by itself: no growing, no flowing, no butterflies; the mod stops the animation of nodes.
    "time_speed": 0,
    "abm_interval": 1000000,
    "nodetimer_interval": 1000000,
    "liquid_update": 1000000,
    "viewing_range": 64,
    "fov": 70,
    "view_bobbing_amount": 0,
    "fall_bobbing_amount": 0,
    "enable_clouds": "false",
    "enable_particles": "false",
    "enable_sound": "false",
    "node_highlighting": "none",
    "show_statusline_on_connect": "false",
    "chat_log_level": "none",  # else the engine writes its errors over the picture
    "client_unload_unused_data_timeout": 6000,
    "server_unload_unused_data_timeout": 6000,
    "max_block_send_distance": 8,
    "max_simultaneous_block_sends_per_client": 200,
    "num_emerge_threads": 2,
    "enable_rollback_recording": "false",
}
_WORLD = {
    "gameid": GAME,
    "backend": "sqlite3",
    "player_backend": "sqlite3",
    "auth_backend": "sqlite3",
    "mod_storage_backend": "sqlite3",
    "enable_damage": "false",
    "creative_mode": "true",
    "load_mod_raddrv": "true",
}


def make_home(home: Path, map_seed: int, width: int, height: int) -> tuple[Path, Path]:
    """Write the files of an engine below its home directory; a world that was there is deleted.

    Returns the file of settings and the directory of the world.
    """
    base, settings = home / ".minetest", home / "run.conf"
    shutil.rmtree(base, ignore_errors=True)
    world, client = base / "worlds" / "rad", base / "clientmods"
    shutil.copytree(_MODS / "server_mod", base / "mods" / "raddrv")
    shutil.copytree(_MODS / "client_mod", client / "radcsm")
    (client / "mods.conf").write_text("load_mod_radcsm = true\n")
    world.mkdir(parents=True)
    (world / "world.mt").write_text(_lines(_WORLD))
    size = {"screen_w": width, "screen_h": height, "fixed_map_seed": map_seed}
    settings.write_text(_lines(_SETTINGS | size))
    return settings, world


def _lines(values: dict[str, object]) -> str:
    return "".join(f"{name} = {value}\n" for name, value in values.items())
