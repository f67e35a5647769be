from annlib.benchmark.sides.gemm import STACK_BYTES, Product, step_products


def shapes(sizes: list[tuple[int, int]], batch_size: int) -> list[tuple[int, int, int]]:
    products = step_products(sizes, batch_size)
    return [(p._left.shape[1], p._left.shape[2], p._right.shape[2]) for p in products]


def test_a_step_of_the_book_s_classifier_has_eight_products() -> None:
    sizes = [(784, 300), (300, 100), (100, 10)]
    assert shapes(sizes, 32) == [
        *[(32, 784, 300), (784, 32, 300)],
        *[(32, 300, 100), (300, 32, 100), (32, 100, 300)],
        *[(32, 100, 10), (100, 32, 10), (32, 10, 100)],
    ]


def test_small_products_are_stacked_within_a_core_s_cache() -> None:
    product = Product(32, 8, 30)
    size = 4 * (32 * 8 + 8 * 30 + 32 * 30)
    assert product.depth > 1
    assert STACK_BYTES - size < product.depth * size <= STACK_BYTES
    assert Product(32, 784, 300).depth == 1


def test_the_products_are_computed() -> None:
    product = Product(4, 8, 3)
    product._out[...] = 0
    product.run(1)
    assert abs(product._out - product._left @ product._right).max() < 1e-5
