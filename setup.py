"""Installation. The run-time requirements are the lines of requirements.txt."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
LINES = (HERE / "requirements.txt").read_text().splitlines()
JAX = "jax{}>=0.10.2,<0.12"

setup(
    name="rad_jax",
    version="0.1.0",
    description="Recurrent Autoregressive Diffusion: video world models with memory, in JAX",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    python_requires=">=3.11",
    packages=find_packages(include=["rad_jax*", "data_prep*", "experiments*"]),
    py_modules=[],
    package_data={
        "rad_jax": ["py.typed"],
        "rad_jax.reports": ["templates/*.html", "templates/style.css"],
        "data_prep.worlds.luanti": ["*/*.lua", "*/mod.conf"],
    },
    install_requires=[line for line in LINES if line and not line.startswith("#")],
    extras_require={
        # To look at the curves of a run in TensorBoard; reports need nothing more.
        "eval": ["tensorboard>=2.21,<3"],
        # To read .pt and .pth files: samples of Open-Oasis (data_prep.convert), weights of LPIPS (data_prep.convert_lpips).
        "torch": ["torch>=2.7"],
        # To run and format the tests.
        "dev": [
            "pytest>=9,<10",
            "pytest-xdist>=3.8,<4",
            "import-linter>=2.17,<3",
            "ruff==0.17.5",  # another version formats differently
            "beartype>=0.23.1,<0.24",
            "dm-pix>=0.4.3,<0.5",  # reference of PSNR and SSIM
            # The reference of parity tests, gigabytes large: on the oldest Python only; elsewhere they are skipped.
            "torch==2.13.0; python_version < '3.12'",
            "diffusers>=0.42,<0.43; python_version < '3.12'",
        ],
        # To record Memory Maze (data_prep.make_memory_maze). Pinned: newer MuJoCo breaks memory-maze or turns its textures.
        # Needs OpenGL, in software or hardware; see docs/data.md.
        "memory-maze": [
            "memory-maze==1.0.3",
            "dm_control==1.0.31",
            "mujoco==3.3.3",
            "labmaze==1.0.6",
        ],
        # To encode latents on a cluster (data_prep.encode_latents_beam).
        "beam": ["apache-beam==2.77.0"],
        # JAX for accelerators.
        "gpu": [JAX.format("[cuda13]")],
        "tpu": [JAX.format("[tpu]")],
    },
)
