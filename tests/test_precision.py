import torch

from lla.precision import full_precision


def test_tf32_is_off_inside_and_as_before_after():
    cudnn = torch.backends.cudnn
    before = (cudnn.allow_tf32, cudnn.benchmark, torch.get_float32_matmul_precision())
    with full_precision(torch.device("cuda")):  # flags alone: no GPU is needed to set them
        assert not cudnn.allow_tf32
        assert torch.get_float32_matmul_precision() == "highest"
    assert (cudnn.allow_tf32, cudnn.benchmark, torch.get_float32_matmul_precision()) == before
