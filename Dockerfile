# docker build -t monet-cyclegan .
#
# A few minutes on the CPU, on pictures that the project paints itself; runs appear in ./outputs:
#   docker run --rm -v "$PWD/outputs:/app/outputs" monet-cyclegan
# On a GPU, with the Kaggle images in ./data (the loader's processes need shared memory):
#   docker run --rm --gpus all --shm-size 8g -v "$PWD/data:/app/data" -v "$PWD/outputs:/app/outputs" \
#     monet-cyclegan train.py experiment=unet_monet trainer=gpu
# Mounted folders must be writable by user 1000, or add: --user "$(id -u):$(id -g)"
# All libraries come in wheels that need nothing beyond the slim image; OpenCV is the headless build.
FROM python:3.12-slim

WORKDIR /app
ENV PYTHONUNBUFFERED=1 HOME=/app UV_SYSTEM_PYTHON=1 UV_NO_CACHE=1

# Dependencies first: a change of the code leaves this layer as it is.
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY monet_cyclegan/__init__.py monet_cyclegan/
RUN pip install --no-cache-dir "$(grep '^uv==' constraints.txt)" \
 && uv pip install --compile-bytecode --constraint constraints.txt --editable .

COPY train.py predict.py evaluate.py ./
COPY conf conf
COPY hydra_plugins hydra_plugins
COPY monet_cyclegan monet_cyclegan

# Any user may write here, so that --user works.
RUN useradd --uid 1000 --no-create-home --home-dir /app monet && mkdir --parents data outputs .cache \
 && chmod 1777 . data outputs .cache
USER monet
VOLUME ["/app/data", "/app/outputs"]

ENTRYPOINT ["python"]
CMD ["train.py", "experiment=demo"]
